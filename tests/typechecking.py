"""What jaxtyping calls on every function of the package while the tests run (see `addopts` in pyproject.toml)."""

from beartype import BeartypeConf, beartype

# As for every static type checker, an int will do where a float is wanted.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
