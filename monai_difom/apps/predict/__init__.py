"""Segment pictures, videos and volumes with a trained student, from the command line or in the browser."""
