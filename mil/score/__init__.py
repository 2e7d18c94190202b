"""Stage `score`: heads of one recipe and a bag give logits, predictions and attention."""
