"""What `mil split` imports before it draws patients."""

import subprocess
import sys

PROGRAM = "import sys, mil.split.stage; sys.exit('sklearn' in sys.modules)"


def test_a_division_that_is_not_drawn_needs_no_scikit_learn():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=250)
