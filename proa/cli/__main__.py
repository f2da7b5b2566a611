"""python -m proa.cli"""

from proa.cli import main

main()
