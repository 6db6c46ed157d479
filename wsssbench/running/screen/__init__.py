"""What a person watches while a run goes on: lines, a live area, event files. No number is made here."""
