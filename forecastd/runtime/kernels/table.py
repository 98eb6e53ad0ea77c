"""The table of a program: an int64 array that tells the compiled functions where things are.

Its entries are sizes, offsets in bytes within a row of the arena, and addresses. One array is
quick to hand over from Python, and the code does not depend on the shape of the network, so it is
compiled once for all models. Names that end in _AT are addresses, in _OFFSET offsets.
"""

from __future__ import annotations

from itertools import count

_place = count()

TASK = next(_place)  # STEP, FORECAST or AHEAD

# The micro-batch: arrays of `capacity` rows that Python fills and reads.
SLOTS_AT = next(_place)  # int64, -1: no slot
TIMES_AT = next(_place)  # int64
VALUES_AT = next(_place)  # float32 [C]
FORECAST_STEPS = next(_place)  # forecast after every n-th step of a series; 0: never
GIVEN_AT = next(_place)  # uint8 out, whether there is a forecast after the row
ROWS_AT = next(_place)  # int64, the rows to step, in order of arrival
STATUS_AT = next(_place)  # uint8 out, see USED below
OUT_AT = next(_place)  # float32 out [horizon, Q]
COUNTS_AT = next(_place)  # int64 out [2]: steps filled in, series reset

# The arena.
ARENA_AT = next(_place)
ROW_BYTES = next(_place)
INITIAL_AT = next(_place)  # one row
DIRTY_AT = next(_place)  # uint8 per slot
SEEN_OFFSET = next(_place)  # float64 [C]
MEAN_OFFSET = next(_place)  # float64 [C, 2], of a running scale
VARIANCE_OFFSET = next(_place)  # float64 [C, 2]
LATEST_OFFSET = next(_place)  # float32 [C]
RING_OFFSET = next(_place)  # float32 [L]
CODES_OFFSET = next(_place)  # int64 [columns]
LAST_TIME_OFFSET = next(_place)  # int64
STEPS_OFFSET = next(_place)  # int64

# Features.
CHANNELS = next(_place)  # C
RATES_AT = next(_place)  # float64 [2], of the fast and the slow tracker
SCALE_AT = next(_place)  # float64 [C, 2], location and spread that stay; 0: the scale is running
VALUES_PLACE = next(_place)  # where the scaled values are among the inputs, in bytes; -1: nowhere
CHANGES_PLACE = next(_place)
OBSERVED_PLACE = next(_place)
CLOCKS_PLACE = next(_place)  # and the embeddings behind the clocks
CLOCKS = next(_place)
CLOCK_KINDS_AT = next(_place)  # int64 [clocks]
COLUMNS = next(_place)  # columns of codes
EMBEDDING = next(_place)  # E, numbers per code
EMBEDDINGS_AT = next(_place)  # int64 [columns], addresses of float32 [codes, E]
LAGS = next(_place)  # L
FREQUENCY_KIND = next(_place)
FREQUENCY_SIZE = next(_place)
SEASON = next(_place)
MAX_GAP = next(_place)

# Layers and head.
LAYERS = next(_place)
LAYERS_AT = next(_place)  # int64 [layers, LAYER_WORDS]
HEAD_KIND = next(_place)
HORIZON = next(_place)  # steps ahead; of a supervised head how many numbers it says
OUT_NUMBERS = next(_place)  # all that is written for a row
BELOW = next(_place)  # quantiles below the median
ABOVE = next(_place)
CENTRE_AT = next(_place)  # int64 [DENSE_WORDS]; 0: the centre is the last layer's output
STEPS_AT = next(_place)  # int64 [DENSE_WORDS], steps between quantiles or spreads; 0: none
LEVELS = next(_place)  # of a normal distribution, how many quantiles
LEVELS_AT = next(_place)  # float32 [LEVELS]: those of the standard one
RESPONSES_AT = next(_place)  # float32 [HORIZON, 2]: location and spread of each response
RECALLED = next(_place)  # the layer whose memory tells its output, which all above are made of

# Work space of one thread.
WAVE_AT = next(_place)  # int32 per slot, zero between calls; slots belong to one thread
RANK_AT = next(_place)  # int32 [capacity]
ORDER_AT = next(_place)  # int64 [capacity]
STARTS_AT = next(_place)  # int64 [capacity + 1]
BLOCK_AT = next(_place)  # int64 [BLOCK_ROWS, BLOCK_WORDS]
HEAD_ROWS_AT = next(_place)  # int64 [BLOCK_ROWS], the block's rows that are forecast
HEAD_INPUT_AT = next(_place)  # float32 [BLOCK_ROWS + 1, HEAD_STRIDE]: output, then lags
HEAD_STRIDE = next(_place)
HEAD_WIDTH = next(_place)  # numbers of the last layer's output
LOCATION_AT = next(_place)  # float64 [BLOCK_ROWS]
SPREAD_AT = next(_place)  # float64 [BLOCK_ROWS]
GATES_AT = next(_place)  # float32 [BLOCK_ROWS, PANEL]
TAIL_AT = next(_place)  # float32 [2 * LANES]
CLOCK_CACHE_AT = next(_place)  # [CLOCK_CACHE_ROWS]: int64 time, float32 [2 * clocks]
NOTHING_AT = next(_place)  # float32 [C] of NaN

# Latency mode: the recurrent half of the next step's gates, made after the reply.
AHEAD_AT = next(_place)  # 0: off; float32 [slots, AHEAD_BYTES / 4]
AHEAD_BYTES = next(_place)
AHEAD_VALID_AT = next(_place)  # uint8 per slot

TABLE_WORDS = next(_place)

_place = count()
LAYER_INPUTS = next(_place)
LAYER_HIDDEN = next(_place)
LAYER_WEIGHTS_AT = next(_place)  # float32 [panels, hidden + inputs, PANEL]
LAYER_BIAS_AT = next(_place)  # float32 [panels, PANEL]
LAYER_BUFFER_AT = next(_place)  # float32 [BLOCK_ROWS, stride]: hidden or taps, then inputs
LAYER_STRIDE = next(_place)
LAYER_HIDDEN_OFFSET = next(_place)  # in a series' row; 0: the layer remembers nothing
LAYER_CELL_OFFSET = next(_place)
LAYER_AHEAD_OFFSET = next(_place)
LAYER_KIND = next(_place)
LAYER_RECURRENT = next(_place)  # numbers before the inputs in the buffer: hidden state, or taps
LAYER_TAPS = next(_place)  # of a LINEAR layer that remembers: past inputs that it reads
LAYER_DILATION = next(_place)
LAYER_ACTIVATION = next(_place)  # of a LINEAR layer
LAYER_LATEST_OFFSET = next(_place)  # where a row keeps its output, if no layer remembers; else 0
LAYER_PEEPHOLES_AT = next(_place)  # float32 [panels, PANEL]: by which a gate sees the cell
LAYER_WORDS = next(_place)

_place = count()
DENSE_INPUTS = next(_place)
DENSE_OUTPUTS = next(_place)
DENSE_WEIGHTS_AT = next(_place)  # float32 [panels, inputs, PANEL], or [outputs, padded inputs]
DENSE_BIAS_AT = next(_place)
DENSE_OUT_AT = next(_place)  # float32 [panels, BLOCK_ROWS, PANEL]
DENSE_WORDS = next(_place)

_place = count()
BLOCK_SLOT = next(_place)
BLOCK_ROW_AT = next(_place)  # the series' row in the arena
BLOCK_TIME = next(_place)
BLOCK_VALUES_AT = next(_place)
BLOCK_OUT_AT = next(_place)  # 0: no forecast wanted
BLOCK_HEAD_PLACE = next(_place)  # BLOCK_ROWS: no forecast wanted
BLOCK_CELL_AT = next(_place)  # of the layer that runs; of a GRU its hidden state
BLOCK_HIDDEN_AT = next(_place)
BLOCK_OUTPUT_AT = next(_place)  # in the inputs of the next layer or of the head
BLOCK_WORDS = next(_place)

LSTM, PEEPHOLE_LSTM, GRU, LINEAR = range(4)
"""Kinds of layers. A recurrent one has panels of four gates: those of a GRU are its reset and
update gates, what its candidate takes from the inputs, and what it takes from the hidden state. A
linear one has panels of outputs; with taps it is a causal convolution."""

NONE, RELU, SOFTMAX = range(3)
"""What follows a linear layer. A softmax is the last of all."""

QUANTILES, NORMAL, RESPONSES, CLASSES = range(4)
"""Kinds of heads. A point is the median of quantiles that has none beside it. Those from RESPONSES
on say what the target is now; of classes, the shares are made of the centre."""

BLOCK_ROWS = 48
"""Series that are stepped together: their inputs and one panel of weights fit the first cache."""

FEW_OUTPUTS = 4
"""A map to so few outputs is computed as dot products: a panel would be mostly padding."""

CLOCK_CACHE_ROWS = 64

STEP, FORECAST, AHEAD = range(3)
"""Tasks: step, forecast from states as they are, make the next step ahead."""

USED, LATE, REPEAT, NO_SLOT, FILLED = range(5)
"""What became of a row. FILLED: a stamp before it was missing, so it is not its turn yet."""

HOUR, WEEKDAY, YEARDAY, SEASON_CLOCK = range(4)
"""Kinds of clocks, see features.calendar."""

DURATION, MONTH, COUNT = range(3)
"""Kinds of frequencies, see series.Frequency."""
