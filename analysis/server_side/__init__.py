"""What the target said of itself: series, levels that objectives judge, what saturated first."""
