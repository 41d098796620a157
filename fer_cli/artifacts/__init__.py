"""The artifact store: ``<store>/<kind>/<name>/<version>/`` with ``manifest.json`` and a payload.

``durable`` is every step that touches the disk, ``manifest`` what an artifact says of itself, ``payload`` the file
formats, ``store`` finding and making artifacts, ``upkeep`` verifying and cleaning.
"""
