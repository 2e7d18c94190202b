"""Stage `heatmap`: a head, a bag and an overview give a picture, and files that open in QuPath and a spreadsheet."""
