"""Learning to defer: one loss core, K agents, exact deferral curves.

Data flows one way through the modules, in this order:
data → agents → costs → losses (by margins and ideals) → routers → rules → metrics → plots.

    chapters 00–05   the modules of this folder; `methods` is the one table of methods, `choose` the one tuner
    06               studies.imbalance, training
    07               scores, studies.posthoc, studies.variants, studies.people
    08               neighbours, studies.prompts
    09               own, saving
    10               ledger, studies.controls
"""

__version__ = "0.1.0"
