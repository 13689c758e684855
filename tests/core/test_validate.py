import numpy as np
import pytest

from l2d_utils import validate


@pytest.mark.parametrize(
    "values, message",
    [
        ([[1.0, np.nan]], "row 0, column 1 is nan"),
        ([[1.0, 2.0], [np.inf, 0.0]], "row 1, column 0 is inf"),
        ([[np.inf, -np.inf]], "row 0, column 0 is inf"),
        ([1.0, 2.0], r"shape \(n, d\); found shape \(2,\)"),
        (np.empty((0, 3)), "no rows"),
        ([["a", "b"]], "must be numeric"),
        ([[None, 1.0]], "nan|numeric"),
    ],
)
def test_check_matrix_names_what_is_wrong(values, message):
    with pytest.raises(ValueError, match=message) as error:
        validate.check_matrix("X", values)
    assert "X" in str(error.value)


def test_check_matrix_types_and_columns():
    assert validate.check_matrix("X", np.ones((2, 2), np.float32)).dtype == np.float32
    for other in (np.float16, np.int32, bool):
        assert validate.check_matrix("X", np.ones((2, 2), other)).dtype == np.float64
    with pytest.raises(ValueError, match="must have 3 columns; found 2"):
        validate.check_matrix("X", np.ones((2, 2)), columns=3)
    huge = np.full((2, 2), 1e308)  # finite, though its sum is not
    assert validate.check_matrix("X", huge) is huge


def test_check_costs():
    assert validate.check_costs([[0, 1]]).dtype == np.float64
    with pytest.raises(ValueError, match="row 1, agent 0 is -0.5"):
        validate.check_costs([[0.0, 1.0], [-0.5, 1.0]])
    with pytest.raises(ValueError, match="at least 2 agents"):
        validate.check_costs([[0.0]])
    with pytest.raises(ValueError, match="weights must be non-negative"):
        validate.check_weights([[0.0, -1.0]])


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_check_positive(value):
    with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
        validate.check_positive("temperature", value)


def test_check_per_agent():
    np.testing.assert_array_equal(validate.check_per_agent("rho", 2, 3), [2.0, 2.0, 2.0])
    for bad, message in (([1, 2], "3 numbers"), ([1, 0, 1], "agent 1 has 0.0"), ([1, 1, np.nan], "agent 2 has nan")):
        with pytest.raises(ValueError, match=message):
            validate.check_per_agent("rho", bad, 3, positive=True)
    validate.check_per_agent("offset", [-1, 0, 1], 3)


def test_check_same_rows():
    validate.check_same_rows(a=np.ones(2), b=np.ones((2, 3)))
    with pytest.raises(ValueError, match="a has 2, b has 3"):
        validate.check_same_rows(a=np.ones(2), b=np.ones(3))
