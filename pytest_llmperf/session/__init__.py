"""A measuring session, independent of pytest: measures and judges recorded tests."""
