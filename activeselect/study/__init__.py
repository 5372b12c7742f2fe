"""Many runs compared and reported."""
