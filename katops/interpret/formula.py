"""Closed formulas in original units: as a sympy expression, as LaTeX, as Python text, and as a function of raw rows."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from katops.errors import UserError, did_you_mean
from katops.interpret.symbolic_network import SymbolicEdge, SymbolicNetwork

if TYPE_CHECKING:
    import pandas
    import sympy

    from katops.interpret.fitted import DerivedInputs


class Formula:
    """One expression per output, of the raw input columns.

    Args:
        expressions: sympy expressions in symbols called like the columns.
        columns: names of the input columns, in the order of the rows.
        outputs: names of the outputs.
        derived: where the columns are made of those that the user has (levels of a category, indicators of gaps): how.

    Calling it with rows, an array (N, columns) or a DataFrame, gives the outputs, (N,) or (N, outputs); NaN where the
    expression is not defined. With ``derived`` the rows are those that the estimator takes.
    """

    def __init__(
        self,
        expressions: Sequence[sympy.Expr],
        columns: Sequence[str],
        outputs: Sequence[str] | None = None,
        derived: DerivedInputs | None = None,
    ) -> None:
        self.derived = derived
        self.expressions = list(expressions)
        self.columns = [str(column) for column in columns]
        self.outputs = list(
            outputs or ([f"y{k + 1}" for k in range(len(expressions))] if len(expressions) > 1 else ["y"])
        )

    @classmethod
    def of_network(
        cls,
        network: SymbolicNetwork,
        columns: Sequence[str],
        outputs: Sequence[str] | None = None,
        *,
        positive: Sequence[bool] | None = None,
        derived: DerivedInputs | None = None,
    ) -> Formula:
        """The formula that a symbolic network computes.

        Args:
            network: on raw columns.
            columns, outputs: their names.
            positive: which columns are known to be positive, so that log and powers may be drawn together.
            derived: see :class:`Formula`.
        """
        import sympy

        positive = positive if positive is not None else [False] * len(columns)
        assumed = [
            sympy.Symbol(str(name), real=True, positive=True if known else None)
            for name, known in zip(columns, positive, strict=True)
        ]
        nodes: list[Any] = list(assumed)
        for layer in network.layers:
            subnodes = [_number(bias) for bias in layer.bias]
            for edge in layer.edges:
                subnodes[edge.target] += _term(edge, nodes[edge.source])
            nodes = [
                sympy.Mul(*(subnodes[factor] for factor in layer.factors(output))) for output in range(layer.outputs)
            ]
        plain = {symbol: sympy.Symbol(symbol.name) for symbol in assumed}
        return cls([sympy.sympify(node).xreplace(plain) for node in nodes], columns, outputs, derived)

    @property
    def expression(self) -> sympy.Expr:
        """The expression of the only output.

        Raises:
            UserError: there are several; take one of ``expressions``.
        """
        if len(self.expressions) != 1:
            raise UserError(f"the formula has {len(self.expressions)} outputs; take one of .expressions")
        return self.expressions[0]

    def rounded(self, digits: int = 4) -> Formula:
        """A copy whose numbers have so many significant digits, for reading; it is no longer exactly the model."""
        expressions = [_rounded(expression, digits) for expression in self.expressions]
        return Formula(expressions, self.columns, self.outputs, self.derived)

    def latex(self, digits: int = 4) -> str:
        """LaTeX, one line per output, with numbers of so many significant digits."""
        import sympy

        lines = zip(self.outputs, self.rounded(digits).expressions, strict=True)
        return "\n".join(f"{sympy.latex(sympy.Symbol(name))} = {sympy.latex(line)}" for name, line in lines)

    def source(self, name: str = "formula") -> str:
        """A Python function that needs NumPy alone, as text; its arguments are the columns that matter.

        Args:
            name: of the function, a Python identifier.
        """
        import sympy
        from sympy.printing.numpy import NumPyPrinter

        if not name.isidentifier() or keyword.iskeyword(name):
            raise UserError(f"source: {name!r} is no name for a Python function; use letters, digits and underscores")
        used = self.used_columns
        arguments = dict(zip(used, _identifiers(used, {name, "numpy"}), strict=True))
        renamed = {sympy.Symbol(column): sympy.Symbol(argument) for column, argument in arguments.items()}
        printer = NumPyPrinter({"fully_qualified_modules": True, "allow_unknown_functions": False})
        bodies = [printer.doprint(expression.xreplace(renamed)) for expression in self.expressions]
        meanings = dict(zip(self.columns, self.derived.meanings if self.derived else (), strict=False))
        words = {column: f"{column}; {meanings[column]}" if meanings.get(column) else column for column in arguments}
        described = "".join(f"        {argument}: {words[column]}\n" for column, argument in arguments.items())
        arguments_text = f"\n\n    Args:\n{described}    " if described else ""
        returned = bodies[0] if len(bodies) == 1 else f"({', '.join(bodies)})"
        return (
            "import numpy\n\n\n"
            f"def {name}({', '.join(arguments.values())}):\n"
            f'    """{", ".join(self.outputs)}.{arguments_text}"""\n'
            f"    return {returned}\n"
        )

    @property
    def used_columns(self) -> list[str]:
        """The columns that occur in the formula, in their order."""
        occurring = {symbol.name for expression in self.expressions for symbol in expression.free_symbols}
        return [column for column in self.columns if column in occurring]

    def __call__(self, rows: np.ndarray | pandas.DataFrame) -> np.ndarray:
        import sympy

        values = self._columns_of(rows)
        stand_ins = [sympy.Dummy() for _ in self.columns]
        renamed = {sympy.Symbol(column): dummy for column, dummy in zip(self.columns, stand_ins, strict=True)}
        results = []
        for expression in self.expressions:
            function = sympy.lambdify(stand_ins, expression.xreplace(renamed), modules="numpy")
            with np.errstate(all="ignore"):
                result = np.asarray(function(*values.T))
            results.append(np.broadcast_to(_real(result), (len(values),)))
        return np.stack(results, axis=1) if len(results) > 1 else np.array(results[0])

    def _columns_of(self, rows: Any) -> np.ndarray:
        if self.derived is not None:
            return self.derived(rows)
        if hasattr(rows, "columns"):
            names = [str(name) for name in rows.columns]
            for column in self.used_columns:
                if column not in names:
                    raise UserError(f"the formula needs a column {column!r}{did_you_mean(column, names)}")
            data = {
                name: np.asarray(rows.iloc[:, place], dtype=float)
                for place, name in enumerate(names)
                if name in self.used_columns
            }
            empty = np.zeros(len(rows))
            return np.stack([data.get(column, empty) for column in self.columns], axis=1)
        values = np.asarray(rows, dtype=float)
        if values.ndim != 2 or values.shape[1] != len(self.columns):
            raise UserError(
                f"the formula takes rows of {len(self.columns)} columns ({', '.join(self.columns)}), got {values.shape}"
            )
        return values

    def __str__(self) -> str:
        lines = zip(self.outputs, self.rounded().expressions, strict=True)
        return "\n".join(f"{name} = {line}" for name, line in lines)

    def __repr__(self) -> str:
        return f"Formula({str(self)!r})"


def _term(edge: SymbolicEdge, node: sympy.Expr) -> sympy.Expr:
    import sympy

    argument = _number(edge.a) * node + _number(edge.b)
    template = sympy.sympify(edge.function.expression, locals={"u": sympy.Symbol("u")})
    return _number(edge.c) * template.xreplace({sympy.Symbol("u"): argument})


def _number(value: float) -> sympy.Expr:
    """Whole numbers, halves and quarters as such, so that 2 x^2 is not 2.0 x^2.0; all else in double precision."""
    import sympy

    value = float(value)
    if (4 * value).is_integer() and abs(value) <= 100:
        return sympy.Rational(int(4 * value), 4)
    return sympy.Float(value)


def _rounded(expression: sympy.Expr, digits: int) -> sympy.Expr:
    import sympy

    return expression.xreplace(
        {number: _number(float(f"{float(number):.{digits}g}")) for number in expression.atoms(sympy.Float)}
    )


def _real(values: np.ndarray) -> np.ndarray:
    if np.iscomplexobj(values):
        return np.where(np.abs(values.imag) > 0, np.nan, values.real)
    return values.astype(float)


def _identifiers(names: Sequence[str], taken: set[str]) -> list[str]:
    """Python names for columns: underscores for what is no letter or digit, numbers to tell equal ones apart."""
    found = []
    for name in names:
        base = re.sub(r"\W+", "_", name).strip("_") or "x"
        base = f"x{base}" if base[0].isdigit() else f"{base}_" if keyword.iskeyword(base) else base
        candidate, count = base, 2
        while candidate in taken:
            candidate, count = f"{base}_{count}", count + 1
        taken = taken | {candidate}
        found.append(candidate)
    return found
