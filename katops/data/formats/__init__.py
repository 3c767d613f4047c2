"""What files mean: a table of formats, recognised by what is in a file, never by its name."""

from katops.data.formats.description import FORMATS as FORMATS
from katops.data.formats.description import PLAIN as PLAIN
from katops.data.formats.description import candidates_of as candidates_of
from katops.data.formats.description import describe as describe
from katops.data.formats.description import describe_tree as describe_tree
from katops.data.formats.description import recognise as recognise
from katops.data.formats.description import register_format as register_format
from katops.data.formats.description import statement_of as statement_of
