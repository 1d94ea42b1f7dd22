"""What XGBoost and LightGBM training on workers have in common."""
