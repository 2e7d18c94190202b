"""Cells that a spreadsheet program would run as formulas, written so that it shows them.

Ids, labels and columns come from other people. A cell that begins with `=` could open a
program or send other cells away when the table is opened; behind an apostrophe it is text.
"""

# Characters that begin a formula, for some programs in their wide form too.
FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"
# Characters that some programs cut off before they look for a formula.
CUT_OFF = "\t\r\n "
TEXT_MARK = "'"
_SUSPECT = frozenset(FORMULA + CUT_OFF + TEXT_MARK)


def escaped(cell: object) -> object:
    """A cell of a table that we write: an apostrophe goes before what would be a formula.

    Numbers stay as they are. `unescaped` gives the cell back.
    """
    if isinstance(cell, str) and cell[:1] in _SUSPECT and _is_formula(cell):
        return TEXT_MARK + cell
    return cell


def unescaped(cell: str) -> str:
    """A cell of a table that we read, without the apostrophe of `escaped`."""
    if cell.startswith(TEXT_MARK) and _is_formula(cell):
        return cell[1:]
    return cell


def _is_formula(cell: str) -> bool:
    # Without the marks, so that a text that begins with one comes back as it was.
    text = cell.lstrip(TEXT_MARK)
    core = text.lstrip(CUT_OFF)
    # A lone dash stands for an empty cell in many tables.
    if core[:1] not in FORMULA or len(core) < 2:
        return text[:1] in ("\t", "\r", "\n")
    return not _is_number(core)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
