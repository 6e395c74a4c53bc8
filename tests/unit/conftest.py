from hypothesis import settings

# No database folder beside the sources, and no deadline: machines that are shared pause.
settings.register_profile("unit", settings.default, database=None, deadline=None)
settings.load_profile("unit")
