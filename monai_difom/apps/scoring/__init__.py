"""Scores of a student, or of maps of any program, on images and on volumes."""
