"""What requests took and cost: accounting, the table of usage, reports."""
