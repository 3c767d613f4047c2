"""Reports: tables on the terminal and as files, figures, and one self-contained HTML page."""

from katops.report.html import write_report as write_report
from katops.report.semigroup import semigroup_sentence as semigroup_sentence
from katops.report.terminal import metrics_table as metrics_table
from katops.report.terminal import print_metrics as print_metrics
