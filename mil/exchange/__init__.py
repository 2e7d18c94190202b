"""Feature bags of CLAM, TRIDENT, STAMP, ACMIL and AEM: read, written and looked over; see docs/bags.md."""
