"""Scanner of a slide: vendor and model, as its file states them."""

from collections.abc import Mapping

# Properties with the model of the scanner, else its name; the first that a file has.
MODEL = (
    "hamamatsu.Product",
    "philips.DICOM_MANUFACTURERS_MODEL_NAME",
    "dicom.ManufacturerModelName",
    "ventana.ScannerModel",
    "leica.device-model",
    "tiff.Model",
    "aperio.ScanScope ID",
)
# Characters of either; a file may state anything.
LONGEST = 60


def scanner_of(vendor: str, properties: Mapping[str, str]) -> str:
    """Vendor and model of a slide's scanner, such as `hamamatsu NanoZoomer`.

    Args:
        vendor: Vendor or format of the slide's file.
        properties: Properties of the slide, under OpenSlide's names.
    """
    model = next((properties[name] for name in MODEL if properties.get(name)), "")
    words = [" ".join(text.split())[:LONGEST] for text in (vendor, model)]
    return " ".join(word for word in words if word)
