"""The models that come with fer: from a trained model to the folder ``assets/models``, and its card."""
