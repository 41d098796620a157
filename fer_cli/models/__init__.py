"""Networks: backbones, where their weights come from, and running them over a data set."""
