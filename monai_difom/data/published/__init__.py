"""Published data sets that need more than a listing: CHAOS, polygons of an annotator, the sequences of CVC-ClinicDB."""
