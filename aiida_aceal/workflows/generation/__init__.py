"""One generation of a campaign.

``workchain`` says what each step takes and what is kept of its result; ``running``, its base, launches, reports and
keeps. Only these two know AiiDA's context. The work of each step is in a module of its own, with stated inputs and
outputs: ``start`` says what to launch, ``collect`` (in ``gate``: ``decide``) what came of it.

======================  ================================================================================
``explore``             runs with the potential in force; candidates with gamma in the window
``score``               dE and dF of an ensemble for the candidates
``cut``                 unknown environments in place of candidates too large for a label
``select``              which candidates are labelled
``label``               labels of what is new; quarantine
``screen``              labels that cannot be right: quarantine, too
``fit``                 a new potential from all labelled sets
``active_set``          the active set of a potential
``validate``            errors of the new potential
``gate``                whether it comes into force, and whether it is the best
``properties``          errors of its properties against the bounds of the gate, if it has any
``conclude``            what is in force and the best, what the generation cost, calibration
----------------------  --------------------------------------------------------------------------------
``given``               the inputs, with defaults filled in
``running``             launching, reporting, keeping
``state``               all that is kept between steps
``outcome``             what steps give back
``ports``               inputs, outputs, exit codes, checks at submission
======================  ================================================================================
"""
