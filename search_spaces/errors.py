"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """Bad input, told in one line: the value, the rule it breaks and the way out.

    Command-line tools print it as ``error: <line>`` and exit with status 2.
    """
