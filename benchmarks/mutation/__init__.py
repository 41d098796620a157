"""Mutation testing of the modules that decide numbers: do the tests notice a wrong operator, number or condition?"""
