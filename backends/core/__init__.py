"""What all adapters share: vocabulary, base, reports, saving, calibration."""
