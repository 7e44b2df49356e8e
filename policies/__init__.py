"""What agents may do. Pure functions of arguments, actor and facts; an auditor starts reading here."""
