r"""Initial shapes of the rational function: coefficients by name, and what they amount to.

.. math:: F(x) = \frac{P(x)}{Q(x)}, \quad P = \sum_{i=0}^5 a_i x^i, \quad Q = 1 + \sum_{j=1}^4 |b_j|\,|x|^j

**Fitted shapes** (``gelu``, ``silu``, ...) have the smallest maximal error on [-3, 3] that the degrees allow while an
error on [-10, 10] counts a tenth; ``python -m katops.rational_fit`` prints them, and :mod:`katops.rational_fit` says
why. ``swish`` is another name of ``silu``. ``geglu`` is ``gelu``: GEGLU(x) = GELU(x W) * (x V) is no function of one
variable (Shazeer 2020, arXiv 2002.05202, equation 6), so its shape is that of its gate.

**Published shapes** (``published_gelu``, ...) are the initial values of the published KAT code (repository
Adamdad/rational_kat_cu, file kat_rational/init.json), for checkpoints and comparisons. All but one were fitted with
the denominator above, which is also what the published kernels evaluate. ``published_gelu`` alone was fitted with
1 + \|sum_j b_j x^j\|, where it is within 3e-3 on [-3, 3]; evaluated with the denominator above it is off by 1.46.

Largest errors on [-3, 3] and [-10, 10] are in the table. Further out P/Q has the same slope a_5 / b_4 at both ends:
1/2 for the GELU-like shapes (mish 0.55, hardswish 0.77, elu 1.2), so that their error grows like \|x\|/2 from \|x\| of
about 10 on; sigmoid and tanh are not bounded, since they keep slopes of 0.013 and 0.039.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from katops.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Shape:
    """Coefficients of one rational function of degrees (5, 4), and its distance from the function it is named after.

    Attributes:
        numerator: a_0 .. a_5.
        denominator: b_1 .. b_4; the function reads their absolute values.
        max_error: largest absolute error on [-3, 3].
        outside_error: largest absolute error on [-10, 10].
    """

    numerator: tuple[float, ...]
    denominator: tuple[float, ...]
    max_error: float
    outside_error: float

    @property
    def slope(self) -> float:
        """Limit of F(x)/x for x to infinity, the same at both ends if it is finite and not zero."""
        return slope_at_infinity(self.numerator, self.denominator)


_FITTED = {
    "identity": Shape(
        numerator=(0.0, 1.0, 0.0, 0.0, 0.0, 0.0),
        denominator=(0.0, 0.0, 0.0, 0.0),
        max_error=0,
        outside_error=0,
    ),
    "gelu": Shape(
        numerator=(-0.00235592600759, 0.5, 0.413961812829, 0.118091500474, 0.013389137946, 0.000513716581995),
        denominator=(0.0, 0.236183000949, 0.0, 0.00102743316399),
        max_error=0.00236,
        outside_error=0.0236,
    ),
    "gelu_tanh": Shape(
        numerator=(-0.00233003022208, 0.5, 0.413586843122, 0.117772470743, 0.0133316710685, 0.000510903810428),
        denominator=(0.0, 0.235544941485, 0.0, 0.00102180762086),
        max_error=0.00233,
        outside_error=0.0233,
    ),
    "quick_gelu": Shape(
        numerator=(0.00209930426642, 0.5, 0.414030608808, 0.129647325093, 0.0172461447974, 0.000801212397027),
        denominator=(0.0, 0.259294650187, 0.0, 0.00160242479405),
        max_error=0.0021,
        outside_error=0.021,
    ),
    "silu": Shape(
        numerator=(0.000328940776037, 0.5, 0.249054834787, 0.0502860099596, 0.00472126564385, 0.000168865096737),
        denominator=(0.0, 0.100572019919, 0.0, 0.000337730193473),
        max_error=0.000329,
        outside_error=0.00329,
    ),
    "mish": Shape(
        numerator=(
            0.000398570133209,
            0.610522095542,
            0.319634227836,
            0.0767353070854,
            0.00926850268866,
            0.000424730482522,
        ),
        denominator=(0.0149097974102, 0.160842166261, 0.0, 0.000769759899798),
        max_error=0.00262,
        outside_error=0.0262,
    ),
    "hardswish": Shape(
        numerator=(0.0020565980588, 0.941262428339, 0.190442775246, 0.624854070336, 0.289439216355, 0.0252543280988),
        denominator=(1.97506662395, 0.0, 0.282818748628, 0.0328369529619),
        max_error=0.039,
        outside_error=0.39,
    ),
    "relu": Shape(
        numerator=(0.023524371358, 0.50566311214, 1.53662873633, 1.34188679295, 0.387661149139, 0.028823589833),
        denominator=(0.0738442122237, 2.57920301995, 0.0408215536175, 0.0545379945416),
        max_error=0.0235,
        outside_error=0.235,
    ),
    "leaky_relu": Shape(
        numerator=(0.0232912593835, 0.505, 1.4965896521, 1.32830141722, 0.375043723037, 0.0284204429645),
        denominator=(0.0, 2.63029983609, 0.0, 0.0562781048802),
        max_error=0.0233,
        outside_error=0.233,
    ),
    "elu": Shape(
        numerator=(
            0.00133263639049,
            0.992737940326,
            0.230908947784,
            0.0852739743106,
            0.00875225214681,
            0.000404010498538,
        ),
        denominator=(0.228246667104, 0.0831914353727, 0.0096675573749, 0.000331176827463),
        max_error=0.00166,
        outside_error=0.0166,
    ),
    "softplus": Shape(
        numerator=(0.693490187077, 0.5, 0.165407786972, 0.0297922025154, 0.00274272877495, 9.89961843887e-05),
        denominator=(0.0, 0.0595844050307, 0.0, 0.000197992368777),
        max_error=0.000343,
        outside_error=0.00343,
    ),
    "tanh": Shape(
        numerator=(0.0, 1.00210144677, 0.0, 0.0875430126466, 0.0, 0.0003534943788),
        denominator=(0.00805658142142, 0.414204155021, 0.0, 0.00902042348215),
        max_error=0.000157,
        outside_error=0.00157,
    ),
    "sigmoid": Shape(
        numerator=(0.5, 0.249988895137, 0.0546099338938, 0.00648269409364, 0.000412527296109, 1.10364299602e-05),
        denominator=(0.0, 0.109219867788, 0.0, 0.000825054592219),
        max_error=4.34e-06,
        outside_error=4.34e-05,
    ),
}

_PUBLISHED = {
    "published_identity": Shape(
        numerator=(0.0, 1.0, 0.0, 0.0, 0.0, 0.0),
        denominator=(0.0, 0.0, 0.0, 0.0),
        max_error=0,
        outside_error=0,
    ),
    "published_gelu": Shape(
        numerator=(-0.00153969, 0.51692871, 0.44075827, 0.0972553, -0.00884418, -0.00378675),
        denominator=(-0.14171056, -0.06481231, -0.0444695, 0.01283776),
        max_error=1.46,
        outside_error=11.8,
    ),
    "published_gelu_old": Shape(
        numerator=(
            -0.0012423594497499122,
            0.5080497063245629,
            0.41586363182937475,
            0.13022718688035761,
            0.024355900098993424,
            0.00290283948155535,
        ),
        denominator=(-0.06675015696494944, 0.17927646217001553, 0.03746682605496631, 1.6561610853276082e-10),
        max_error=0.00414,
        outside_error=2.46,
    ),
    "published_swish": Shape(
        numerator=(
            3.054879741161051e-07,
            0.5000007853744493,
            0.24999783422824703,
            0.05326628273219478,
            0.005803034571292244,
            0.0002751961022402342,
        ),
        denominator=(-4.111554955950634e-06, 0.10652899335007572, -1.2690007399796238e-06, 0.0005502331264140556),
        max_error=1.2e-06,
        outside_error=0.16,
    ),
    "published_relu": Shape(
        numerator=(
            0.029963801610813613,
            0.6168978366891341,
            2.37534759733888,
            3.0659900472408443,
            1.5246831881677423,
            0.2528070864040542,
        ),
        denominator=(-1.191550121923625, 4.4080487697236626, 0.9110357113686055, 0.34884977946384615),
        max_error=0.03,
        outside_error=2.65,
    ),
    "published_leaky_relu": Shape(
        numerator=(
            0.029792778657264946,
            0.6183735264987601,
            2.323309062531321,
            3.051936237265109,
            1.4854203263828845,
            0.2510244961111299,
        ),
        denominator=(-1.1419548357285474, 4.393159974992486, 0.8714712309957245, 0.34719662339598834),
        max_error=0.0298,
        outside_error=2.63,
    ),
    "published_leaky_relu_0.1": Shape(
        numerator=(
            0.028001623256966722,
            0.6356606448768645,
            1.9230178392192485,
            2.96752700768763,
            1.1911336843997844,
            0.23922607056505849,
        ),
        denominator=(-0.7802079437303349, 4.278190623059944, 0.5865922075979962, 0.33447021316466974),
        max_error=0.028,
        outside_error=2.39,
    ),
    "published_tanh": Shape(
        numerator=(
            -1.0804622559204184e-08,
            1.0003008043819048,
            -2.5878199375289335e-08,
            0.09632129918392647,
            3.4775841628196104e-09,
            0.0004255709234726337,
        ),
        denominator=(-0.0013027181209176277, 0.428349017422072, 1.4524304083061898e-09, 0.010796648111337176),
        max_error=4.06e-05,
        outside_error=0.0206,
    ),
    "published_sigmoid": Shape(
        numerator=(
            0.4999992534599381,
            0.25002157564685185,
            0.14061924500301096,
            0.049420492431596394,
            0.00876714851885483,
            0.0006442412789159799,
        ),
        denominator=(2.1694506382753683e-09, 0.28122766100417684, 1.0123620714203357e-05, 0.017531988049946),
        max_error=1.86e-05,
        outside_error=0.0691,
    ),
}

SHAPES: Mapping[str, Shape] = MappingProxyType(
    {**_FITTED, "swish": _FITTED["silu"], "geglu": _FITTED["gelu"], **_PUBLISHED}
)
"""All initial shapes by name, read-only."""


def shape(name: str) -> Shape:
    """The initial shape with this name.

    Raises:
        UserError: there is no such shape.
    """
    if name not in SHAPES:
        raise UserError(f"unknown rational shape {name!r}{did_you_mean(name, SHAPES)} Known: {', '.join(SHAPES)}")
    return SHAPES[name]


def evaluate(x: np.ndarray, numerator: Sequence[float], denominator: Sequence[float]) -> np.ndarray:
    """P(x) / Q(x) in the precision of ``x``, by Horner's rule.

    Args:
        x: any shape.
        numerator: a_0 .. a_m.
        denominator: b_1 .. b_n; absolute values are taken.
    """
    quotient = np.polynomial.polynomial.polyval(np.abs(x), [1.0, *np.abs(denominator)])
    return np.polynomial.polynomial.polyval(x, numerator) / quotient


def slope_at_infinity(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Limit of P(x) / (x Q(x)) for x to +infinity: 0, a ratio of leading coefficients, or plus or minus infinity."""
    a, b = np.trim_zeros(numerator, "b"), np.trim_zeros([1.0, *np.abs(denominator)], "b")
    excess = len(a) - len(b) - 1
    if len(a) == 0 or excess < 0:
        return 0.0
    return float(a[-1] / b[-1]) if excess == 0 else math.copysign(math.inf, a[-1])


def second_moment(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    r"""E[F(z)²] for z ~ N(0, 1), the number behind the variance-preserving initialisation.

    A layer :math:`y = W F(x)` with :math:`x \sim N(0, 1)` keeps the variance if
    :math:`\mathrm{Var}(W) = \alpha / d_{in}`, :math:`\alpha = \mathrm{Var}(x) / E[F(x)^2] = 1 / E[F(z)^2]` (Yang & Wang
    2024, arXiv 2409.10594, section 4.3).

    Gauss-Legendre quadrature with 200 points on each of [-12, 0] and [0, 12]. Gauss-Hermite, over the whole line at
    once, loses digits at the kink that odd powers of \|x\| have at 0: relative errors of 2e-3 with 32 points and 3e-5
    with 128 for the relu and elu shapes, against 1e-13 here.
    """
    nodes, weights = np.polynomial.legendre.leggauss(200)
    z = 6 * (nodes + 1)
    density = 6 * weights * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    both = evaluate(z, numerator, denominator) ** 2 + evaluate(-z, numerator, denominator) ** 2
    return float(density @ both)


_ACTIVATION_CLASSES = MappingProxyType(
    {
        "Identity": "identity",
        "GELU": "gelu",
        "GELUTanh": "gelu_tanh",
        "QuickGELU": "quick_gelu",
        "SiLU": "silu",
        "Swish": "silu",
        "Mish": "mish",
        "Hardswish": "hardswish",
        "HardSwish": "hardswish",
        "ReLU": "relu",
        "LeakyReLU": "leaky_relu",
        "ELU": "elu",
        "Softplus": "softplus",
        "Tanh": "tanh",
        "Sigmoid": "sigmoid",
    }
)
_REQUIRED_SETTINGS = MappingProxyType(
    {"LeakyReLU": {"negative_slope": 0.01}, "ELU": {"alpha": 1.0}, "Softplus": {"beta": 1.0, "threshold": 20.0}}
)


def shape_of_activation(module: object) -> str | None:
    """The name of the fitted shape of an activation module of torch or timm.

    Args:
        module: such as ``nn.GELU()``; only the library's own class counts, since a subclass may compute something else.

    Returns:
        a key of :data:`SHAPES`; ``None`` where the table has no shape with the module's settings.
    """
    kind = type(module)
    if kind.__module__.partition(".")[0] not in ("torch", "timm"):
        return None
    required = _REQUIRED_SETTINGS.get(kind.__name__, {})
    if any(getattr(module, setting) != value for setting, value in required.items()):
        return None
    if kind.__name__ == "GELU" and getattr(module, "approximate", "none") == "tanh":
        return "gelu_tanh"
    return _ACTIVATION_CLASSES.get(kind.__name__)
