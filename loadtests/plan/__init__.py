"""What is to be sent and when: scenario files, schedules, payload templates, objectives."""
