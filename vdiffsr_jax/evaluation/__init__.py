"""Scores on photos: degrade, upscale with several models, measure, tabulate; and the ablation grid."""
