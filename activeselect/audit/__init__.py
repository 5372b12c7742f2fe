"""The reasoning audit: does the answer depend on the steps, and is it sure for a reason?"""
