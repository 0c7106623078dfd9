"""Names of places: reverse geocoding without a network, from a file of GeoNames' cities.

GeoNames (https://www.geonames.org) licenses its data under CC BY 4.0; whoever shows a place must name it.
"""
