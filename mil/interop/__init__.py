"""Exchange of bags and heads with CLAM, TRIDENT, STAMP, ACMIL and AEM."""
