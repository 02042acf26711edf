"""Which attention heads of a language model do nothing, and how do you know?"""

import lazy_loader

# The stub beside this file lists the public names. Each is imported when it is first asked for, so
# that a command's help does not wait for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
