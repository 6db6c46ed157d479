"""A plan carried out: steps fitted and asked, cells judged and recorded, here or in other processes."""
