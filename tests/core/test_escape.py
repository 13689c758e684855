"""Foreign text on a page: escaped, in one line, cut."""

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from l2d_utils.escape import prompt_html


@given(text=st.text(max_size=40))
def test_no_prompt_escapes_its_cell(text):
    page = prompt_html(pd.DataFrame({"prompt": [text + "<script>x</script><td>$a$"], "n": [1]}))
    assert "<script" not in page and "$" not in page
    assert page.count("<td") == 2 and page.count("</td>") == 2


def test_long_prompts_are_cut():
    page = prompt_html(pd.DataFrame({"prompt": ["ab " * 200]}), longest=20)
    assert "ab ab ab ab ab ab a…" in page
