"""Where the embedded elastic dataset comes from, and what may be done with it."""

SOURCE = (
    "Elastic properties of 1,181 inorganic compounds: M. de Jong et al., Charting the complete "
    "elastic properties of inorganic crystalline compounds, Sci. Data 2, 150009 (2015), "
    "doi:10.1038/sdata.2015.9; Materials Project (www.materialsproject.org). Bulk and shear "
    "modulus are Voigt-Reuss-Hill averages. Taken from elastic_tensor.csv of matminer 0.3.9."
)

LICENCE = (
    "Data: Materials Project, CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). File: "
    "matminer 0.3.9, Copyright (c) 2015, The Regents of the University of California, through "
    "Lawrence Berkeley National Laboratory, modified BSD licence."
)
