"""The embedded data set: faces drawn from FACS action units, with subjects and region masks that are known exactly.

``loader`` is the data set, ``parameters`` what can vary, ``faces`` draws one picture and its mask, and below it
``features``, ``mouth``, ``hair`` and ``shading`` draw the parts with the pencil of ``sketch``.
"""
