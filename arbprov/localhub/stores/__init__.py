"""The stores of a hub; `arbprov.localhub.store` has the rules that they keep."""
