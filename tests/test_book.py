"""What the site (`make book`) asks of the stored notebooks, checked without building it."""

import re
from collections import Counter

import pytest
from PIL import Image

from reproduce import notebooks

PATHS = notebooks.find(notebooks.BOOK)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_a_cell_that_shows_a_figure_saves_it_with_words_for_it(path):
    for index, cell in enumerate(notebooks.read(path).cells):
        shown = sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
        saved = re.findall(r"show_figure\(.*?[\"'](\d\d_\w+)[\"']", cell.source, re.DOTALL)
        assert shown == len(saved), f"cell {index} shows {shown} figures and saves {saved}"
        for name in saved:
            with Image.open(notebooks.ROOT / "figures" / f"{name}.png") as image:
                assert len(image.info.get("Description", "").split()) >= 4, f"{name}: alt says too little"


def test_no_equation_number_is_given_twice():
    numbers = Counter()
    for path in PATHS:
        for cell in notebooks.read(path).cells:
            if cell.cell_type == "markdown":
                found = re.findall(r"\\tag\{([\d.]+)\}", cell.source)
                assert all(number.split(".")[0] == str(int(path.stem[:2])) for number in found), path.stem
                numbers.update(found)
    assert numbers and max(numbers.values()) == 1, numbers.most_common(1)
