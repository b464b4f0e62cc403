"""What arbprov costs, beside a hand-written loop; see README.md."""
