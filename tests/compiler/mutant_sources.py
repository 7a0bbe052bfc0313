"""What mutants are made of: the examples, their rewordings, and files of front ends where they are there."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

from edited_examples import EXAMPLES, TORCH, Edit, edited
from laid_out import LAYOUTS, MASKED_LAYOUTS, laid_out
from test_frontend_calls import GRAPH, onnx
from test_frontend_combined_masks import MEANT as COMBINED
from test_frontend_emitted_steps import MEANT as EMITTED
from test_frontend_gathered import MEANT as GATHERED
from test_frontend_iree_attention import MEANT as IREE
from test_frontend_same_meaning import SAME_MEANING
from test_frontend_same_meaning_masks import MASKED_TEXTS
from test_frontend_softmax_forms import MEANT
from written_out import written_out

TWO_RESULTS: list[Edit] = [
    (
        "%sum = linalg.generic {indexing_maps = [#all, #column],",
        "%sum:2 = linalg.generic {indexing_maps = [#all, #column, #column],",
    ),
    (
        "outs(%sum_start : tensor<1x2x128x1xf32>) {",
        "outs(%sum_start, %sum_start : tensor<1x2x128x1xf32>, tensor<1x2x128x1xf32>) {",
    ),
    ("^bb0(%in: f32, %total: f32):\n      %more", "^bb0(%in: f32, %total: f32, %most: f32):\n      %more"),
    (
        "linalg.yield %more : f32\n    } -> tensor<1x2x128x1xf32>",
        "%top = arith.maximumf %in, %most : f32\n      linalg.yield %more, %top : f32, f32\n"
        "    } -> (tensor<1x2x128x1xf32>, tensor<1x2x128x1xf32>)",
    ),
    ("ins(%power, %sum :", "ins(%power, %sum#0 :"),
]

SHARED = Path(os.environ.get("NPUC_FACTS", EXAMPLES.parent.parent / "shared" / "facts")).parent
LARGEST = 100_000  # characters: larger texts hold weights


def sources() -> dict[str, str]:
    """Texts by name; not all are recognised."""
    found = {path.name: path.read_text() for path in sorted(EXAMPLES.glob("*.mlir"))}
    found |= {name: edited(example, *edits) for name, (example, edits) in SAME_MEANING.items()}
    found |= MASKED_TEXTS
    found |= {f"laid out: {name}": laid_out(*layouts) for name, layouts in LAYOUTS.items()}
    found |= {f"laid out: {name}": laid_out(*layouts, mask=mask) for name, (*layouts, mask) in MASKED_LAYOUTS.items()}
    found |= {f"softmax: {name}": written_out(**pieces) for name, (pieces, _) in MEANT.items()}
    found |= {f"iree: {name}": text for name, text in IREE.items()}
    found |= {f"emitted: {name}": text for name, (text, _) in EMITTED.items()}
    found |= {f"gathered: {name}": text for name, (text, *_) in GATHERED.items()}
    found |= {f"masks: {name}": text for name, (text, _) in COMBINED.items()}
    found["onnx"] = onnx(GRAPH)
    found["two results"] = edited(TORCH, *TWO_RESULTS)
    for folder in ("inputs", "cases/mlir/accept"):
        for path in sorted((SHARED / folder).glob("*.mlir*")):
            text = gzip.open(path, "rt").read() if path.suffix == ".gz" else path.read_text()
            if len(text) <= LARGEST:
                found[path.name] = text
    return found
