"""Stage `score`: heads and a bag give logits, predictions and attention."""
