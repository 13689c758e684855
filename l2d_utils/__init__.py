"""Learning to defer: one loss core, K agents, exact deferral curves.

Data flows one way through the modules, in this order:
data -> agents -> costs -> losses / ideals -> routers -> rules -> metrics -> plots.
"""

__version__ = "0.1.0"
