"""Is this device right, and how fast is it?"""
