"""Nothing in the repository that would run on loading, belongs to one machine, or should be kept secret."""

import re
import subprocess

import pytest

from reproduce import notebooks

ROOT = notebooks.ROOT
MAX_BYTES = 3_000_000
BINARY = {".png", ".npz"}

# Ways to load a pickle. A word on top of one of them in prose is fine: it has no bracket behind it.
PICKLE = re.compile(
    r"\b(?:c?[pP]ickle|dill|cloudpickle|shelve|marshal)\s*\.\s*(?:loads?|open|Unpickler)\b|\bimport\s+(?:dill|shelve|joblib)\b"
    r"|\bjoblib\.load\b|\bread_pickle\b|allow_pickle\s*=\s*True|weights_only\s*=\s*False|yaml\.(?:unsafe_|full_)?load\s*\("
)
TORCH_LOAD = re.compile(r"\btorch\.load\(((?:[^()]|\([^()]*\))*)\)")
SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\bgh[pousr]_\w{36}|\bgithub_pat_\w{22,}|\bglpat-[\w-]{20}|\bhf_[A-Za-z]{34}\b|\bsk-[\w-]{20,}|\bxox[abprs]-[\w-]{10,}|\bAIza[\w-]{35}|\bpypi-[\w-]{50,}|\bnpm_\w{36}"
    r"|://[^/\s:@\"\'{}$]+:[^/\s:@\"\'{}$]+@"
    r"|(?i:\b(?:password|secret|api_?key|token)\b\s*[=:]\s*[\"\'][^\"\'\s]{8,}[\"\'])"
)
# /content and /usr/share are no path of one machine: Colab's folder, and where Debian puts a data set.
MACHINE = re.compile(
    r"(?<![\w.~$:/-])/(?:home|root|tmp|work|mnt|var|opt|Users|private)/\w|(?<![\w/])[A-Z]:\\\\?(?:Users|home)\b"
)
# Tests that plant what is looked for, to see that it is found.
PLANTED = {"tests/test_repository.py", "tests/test_notebooks.py", "tests/notebook_checks.py"}


def _files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def _texts():
    for name in _files():
        if (ROOT / name).suffix not in BINARY:
            text = (ROOT / name).read_text("utf-8")
            # Stored pictures of a notebook are one long word each; chance would find anything in them.
            yield name, re.sub(r'"image/png": "[^"]*"', "", text)


def _found(pattern):
    return [(name, m.group()) for name, text in _texts() if name not in PLANTED for m in pattern.finditer(text)]


def test_no_pickle_is_loaded():
    assert _found(PICKLE) == []
    for name, text in _texts():
        for match in TORCH_LOAD.finditer(text):
            assert "weights_only=True" in match[1] or name in PLANTED, (name, match.group())


def test_no_secret_is_stored():
    assert _found(SECRET) == []


def test_no_path_of_one_machine_is_stored():
    assert _found(MACHINE) == []


def test_no_file_is_large_or_executable_by_accident():
    for name in _files():
        assert (ROOT / name).stat().st_size <= MAX_BYTES, name
    listed = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    runnable = {line.split("\t")[1] for line in listed if line.startswith("100755")}
    assert runnable <= {".ci/run", "postBuild"}
    assert not any(line.startswith("120000") for line in listed), "a symbolic link may point anywhere"


@pytest.mark.parametrize(
    ("pattern", "bad", "good"),
    [
        (PICKLE, "pickle.load(f)", "no pickle of data"),
        (PICKLE, "np.load(f, allow_pickle=True)", "np.load(f, allow_pickle=False)"),
        (PICKLE, "yaml.load(text)", "yaml.safe_load(text)"),
        (PICKLE, "pd.read_pickle(p)", "pd.read_csv(p)"),
        (SECRET, "token = '0123456789abcdef'", "tokens = tokenizer.encode(text)"),
        (SECRET, "https://me:secret1@host/x", "https://host/me:1"),
        (SECRET, "-----BEGIN RSA PRIVATE KEY-----", "BEGIN"),
        (MACHINE, "open('/home/me/x')", "~/home/x and docs/home/x"),
        (MACHINE, "C:\\Users\\me", "x:\\alpha"),
    ],
)
def test_the_scan_finds_what_is_planted(pattern, bad, good):
    assert pattern.search(bad) and not pattern.search(good)
