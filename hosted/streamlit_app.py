"""The dashboard where nothing is measured: shipped results only, for a host with little memory.

`streamlit run hosted/streamlit_app.py` in the repository; docs/operating.md says how to deploy it.
Pages are found in hosted/pages, a link to pages/.
"""

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
os.chdir(PROJECT)
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))
os.environ["WHISPERQ_RESULTS_ONLY"] = "true"

import app  # noqa: E402

app.main()
