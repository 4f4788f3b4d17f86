"""Where a place of the picture lies on the sensor."""

import numpy as np
import pytest

from exposurediffusion.rendering.render import upright
from exposurediffusion.web.windows import on_sensor


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_place_is_found_in_every_orientation(orientation):
    sensor = np.arange(6 * 10).reshape(6, 10)
    picture = upright(sensor, orientation)
    rows, columns = picture.shape
    for row in range(rows):
        for column in range(columns):
            x, y = on_sensor((column + 0.5) / columns, (row + 0.5) / rows, orientation)
            assert sensor[int(y * 6), int(x * 10)] == picture[row, column]
