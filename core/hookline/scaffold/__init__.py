"""`hookline plugins new`: a complete plugin distribution from templates.

``templates/common`` holds the files that every distribution has, ``templates/<kind>`` those of one kind. They are
package data: Jinja files whose names end in ``.jinja``; a folder called ``PACKAGE`` becomes the import package.
"""
