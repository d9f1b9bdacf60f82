"""Programs beside the service: doctor, streamcheck, bench, reference, screenshots."""
