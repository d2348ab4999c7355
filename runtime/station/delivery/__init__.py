"""What a station gives back to the clinic's own systems: structured reports, PDF and FHIR."""
