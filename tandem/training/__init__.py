"""From a collected table to a classifier or a predictor: replay, fits, operating points, and how good they are."""
