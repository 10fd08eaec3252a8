"""The waist of the house: what is to be done, as plain data. Knows neither users nor machines."""
